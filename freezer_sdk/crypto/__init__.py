"""The only place that imports a cipher: key derivation, authenticated encryption, signatures, sealing, hashing.

Building blocks without policy. Which key protects what is decided by the formats that use them.
"""
