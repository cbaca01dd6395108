"""What keeps a client's rows private: differential privacy, and secure sums."""
