"""People living through a campaign, and what must come of it in whatever order it is seen."""
