"""The work of one process for its workers: gradients, updates and packets, a block of workers at a time."""
