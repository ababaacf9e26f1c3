"""What a spool is, a record, and how records are listed. No I/O."""
