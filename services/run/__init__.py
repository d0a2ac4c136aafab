"""Everything on one machine: private services, our processes under watch, a demo, and one transfer to look at."""
