"""What keeps a client's rows private: secure sums."""
