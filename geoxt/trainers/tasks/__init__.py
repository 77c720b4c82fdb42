"""Supervised tasks: targets, losses, class weights and metrics of each kind, and the LightningModule `Task`."""
