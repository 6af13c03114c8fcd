"""What tests of Usher stand on, here and elsewhere: real servers and fakes, free of any test framework."""
