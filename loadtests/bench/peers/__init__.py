"""What we are measured beside: a hello, the service most people write, nginx with Lua."""
