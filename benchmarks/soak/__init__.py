"""Small runs under kills and faults, each compared with an unbroken run of the same configuration."""
