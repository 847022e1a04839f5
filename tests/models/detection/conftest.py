"""Puts this folder where the tests below it find `contract_cases`."""
