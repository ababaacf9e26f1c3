"""What can be started as a participant, and the processes that were."""
