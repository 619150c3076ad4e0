"""A small framework in the style of dezero's, for tests: functions of arrays, without gradients."""
