"""Images, labels, maps and boxes: from the files people have to the tensors that training wants."""
