"""MsgFlo's command line tools."""
