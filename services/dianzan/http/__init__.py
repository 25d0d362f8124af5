"""What all HTTP services say alike: problem documents."""
