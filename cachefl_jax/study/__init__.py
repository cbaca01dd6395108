"""Studies: settings x rows x seeds, every row tuned by the same budget on validation rows, told with its error."""
