"""Great Expectations: suites and expectations of our own."""
