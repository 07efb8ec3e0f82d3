"""Webhooks: deliveries of job ends to endpoints."""
