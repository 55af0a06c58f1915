"""Building blocks for data paths: cancellation, bounded pipelines, rate limits. Public to plug-in authors."""
