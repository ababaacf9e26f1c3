"""An in-memory transport under the same contract as the brokers."""
