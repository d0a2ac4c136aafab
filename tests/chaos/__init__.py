"""Chaos: processes and services are killed, stopped and wiped under load, and a judge compares what the clients saw with what is true."""
