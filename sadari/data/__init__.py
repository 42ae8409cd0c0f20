"""From raw files to arrays: one file a data kind. Nothing here imports torch."""
