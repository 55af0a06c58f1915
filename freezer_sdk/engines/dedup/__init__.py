"""The dedup engine: content-defined chunks, authenticated encryption, every backup complete by reference."""
