"""Benchmarks of noma-semcom-env: one module a figure or table of the papers, plus throughput and solvers."""
