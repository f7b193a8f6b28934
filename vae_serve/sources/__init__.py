"""Where rows come from: folder, archive, array, table, list."""
