"""Source files → validated rows → immutable slices in time order."""
