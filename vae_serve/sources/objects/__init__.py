"""What lies in an object store, as the sources read it: listed, fetched whole or by ranges, ahead of who needs it."""
