// What waits for the current device.
#pragma once

namespace c10::cuda {

void device_synchronize();

}  // namespace c10::cuda
