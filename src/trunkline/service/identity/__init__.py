"""The standalone identity: what clients need of Keystone, in the server's own database."""
