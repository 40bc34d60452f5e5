"""What tests share: real servers, a scripted upstream, an independent client, a clock that jumps."""
