"""What runs under mpiexec in tests."""
