"""What all HTTP services say alike: problem documents, OpenAPI text, the types of ASGI."""
