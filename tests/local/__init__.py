"""The private servers themselves: their starts, stops and deaths."""
