"""Delivering a job: claims, retries, delays, acknowledged positions."""
