"""What engines may offer beside backups."""
