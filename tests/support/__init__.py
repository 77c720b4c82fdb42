"""Support for tests: servers on loopback, oracles, generated dataset trees and hypothesis strategies."""
