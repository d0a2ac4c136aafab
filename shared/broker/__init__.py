"""dramatiq and RabbitMQ: how queues are made, how wake-ups are published, how workers run."""
