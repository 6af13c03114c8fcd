"""SCIM 2.0 (RFC 7643, RFC 7644): schemas, documents, filters, patches, discovery. Pure: no I/O."""
