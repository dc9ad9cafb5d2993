"""What the viewer and the hospital's services share: engine process, guards, uploads, spool."""
