"""One patch for each guard: it takes the guard out, and the tests it names must fail."""
