"""The vTPM manager: one per host, it owns every vTPM's key and state hash."""
