"""What rows become: Parquet, npy, csv, projector, PNG files, zip."""
