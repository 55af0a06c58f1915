"""GNU incremental tar streams, as the original writes them."""
