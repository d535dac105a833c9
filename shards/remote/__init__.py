"""Sets that lie elsewhere: object stores and web servers behind the `Store` of shards/store.py, push and pull."""
