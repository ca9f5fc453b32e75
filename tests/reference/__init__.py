"""The plain definition of each metric, as slow and as plain as can be. Never shipped; the package must equal it."""
