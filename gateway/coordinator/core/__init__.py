"""Registry, planner and contracts of the coordinator. No I/O."""
