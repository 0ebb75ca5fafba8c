"""What is sent: images become features with sizes and importance."""
