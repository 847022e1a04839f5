"""The chain, a function a step: each reads, computes, reports and publishes; commands and studies call them."""
