"""Files on disk: a Store for results, a finished file or folder under its name or nothing, bounded reading."""
