"""What runs inside a sandbox: init, gateway, fork server and kernels, bridge client, API generation, installer."""
