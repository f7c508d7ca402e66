"""Files → validated rows → immutable slices in time order."""
