"""Object storage: one interface for s3:// and file://, where library errors become `errors.StorageError`."""
