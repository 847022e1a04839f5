"""The conversation with the Hub: names of repositories, errors that say what to do, and retries."""
