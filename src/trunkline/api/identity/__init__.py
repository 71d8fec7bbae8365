"""The part of Keystone's API v3 that clients need, for clouds without a Keystone of their own."""
